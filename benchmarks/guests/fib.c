// Calls and returns, each with a push and a pop when built with -fcf-protection=return.
__attribute__((noinline)) unsigned long fib(unsigned long n) {
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}
unsigned long work(void) { return fib(33); }
