// Double-precision arithmetic.
typedef struct { double x, y, z, vx, vy, vz, mass; } Body;
static Body bodies[5] = {{0, 0, 0, 0, 0, 0, 39.47},
                         {4.84, -1.16, -.10, .606, 2.81, -.02, .037},
                         {8.34, 4.12, -.4, -1.01, 1.82, .008, .011},
                         {12.89, -15.11, -.22, 1.08, .868, -.01, .0017},
                         {15.37, -25.9, .179, .979, .594, -.034, .002}};
unsigned long work(void) {
    for (int step = 0; step < 100000; ++step) {
        for (int i = 0; i < 5; ++i)
            for (int j = i + 1; j < 5; ++j) {
                Body *a = &bodies[i], *b = &bodies[j];
                double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
                double d2 = dx * dx + dy * dy + dz * dz;
                double mag = .01 / (d2 * __builtin_sqrt(d2));
                a->vx -= dx * b->mass * mag, a->vy -= dy * b->mass * mag, a->vz -= dz * b->mass * mag;
                b->vx += dx * a->mass * mag, b->vy += dy * a->mass * mag, b->vz += dz * a->mass * mag;
            }
        for (int i = 0; i < 5; ++i) {
            bodies[i].x += .01 * bodies[i].vx;
            bodies[i].y += .01 * bodies[i].vy;
            bodies[i].z += .01 * bodies[i].vz;
        }
    }
    return (unsigned long)(bodies[0].x * 1e9);
}
