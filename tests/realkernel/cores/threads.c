// Four threads, of which one overruns a buffer: with symbols of its own in no file of the repository.
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static pthread_barrier_t ready;
static const char request[] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

__attribute__((noinline)) int parse_header(const char *text, int depth) {
    char buffer[16];
    volatile char *out = buffer;
    for (int i = 0; text[i]; i++)
        out[i] = text[i];
    return depth + buffer[3];
}
__attribute__((noinline)) int handle_request(const char *text, int depth) {
    int r = depth > 2 ? parse_header(text, depth) : handle_request(text, depth + 1);
    return r + 1;
}
__attribute__((noinline)) void idle(void) {
    pthread_barrier_wait(&ready);
    for (;;)
        pause();
}
static void *worker(void *number) {
    if ((long)number < 2)
        idle();
    pthread_barrier_wait(&ready);
    usleep(20000);
    handle_request(request, 0);
    return 0;
}
int main(void) {
    pthread_t threads[3];
    pthread_barrier_init(&ready, 0, 4);
    for (long i = 0; i < 3; i++)
        pthread_create(&threads[i], 0, worker, (void *)i);
    pthread_barrier_wait(&ready);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], 0);
}
