// Calls and returns, each with a push and a pop when built with -fcf-protection=return.
__attribute__((noinline)) unsigned long fib(unsigned long n) {
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}
#ifndef NUMBER
#define NUMBER 33
#endif
unsigned long work(void) { return fib(NUMBER); }
