// SHA-256 compression over 4 MiB: long blocks of integer arithmetic.
static unsigned state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                            0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
static unsigned k[64], w[64];

static unsigned ror(unsigned x, int n) { return x >> n | x << (32 - n); }

static void compress(void) {
    for (int i = 16; i < 64; ++i) {
        unsigned s0 = ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3;
        unsigned s1 = ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    unsigned a = state[0], b = state[1], c = state[2], d = state[3];
    unsigned e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; ++i) {
        unsigned t1 = h + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + ((e & f) ^ (~e & g)) + k[i] + w[i];
        unsigned t2 = (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}
unsigned long work(void) {
    for (unsigned i = 0; i < 64; ++i) k[i] = i * 0x9e3779b9u;
    for (unsigned block = 0; block < 65536; ++block) {
        for (unsigned i = 0; i < 16; ++i) w[i] = block * 16 + i;
        compress();
    }
    return state[0];
}
