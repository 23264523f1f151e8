// An integer loop without memory.
unsigned long work(void) {
    unsigned long a = 1, b = 2;
    for (unsigned long i = 0; i < 20000000; ++i) {
        a = a * 6364136223846793005ul + 1442695040888963407ul;
        b ^= a >> 17;
        b += i;
    }
    return b;
}
