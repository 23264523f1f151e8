// Four pthreads that live at the same time, compute one after another, and are joined.
//
// The program ends with the right result even where all its threads share one shadow stack: they
// push the same return address at their start, and nested calls only while holding `turn`. musl
// itself never pushes. What gives the sharing away is each thread's first ssp.
#include <pthread.h>
#include <stdio.h>

enum { THREADS = 4, FIRST = 12, EXPECTED = 144 + 233 + 377 + 610 };

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static long results[THREADS];

__attribute__((noinline)) static long fibonacci(long n) {
    if (n < 2)
        return n;
    long a = fibonacci(n - 1);
    return a + fibonacci(n - 2);
}

static void *worker(void *result) {
    pthread_mutex_lock(&turn);
    long index = (long *)result - results;
    *(long *)result = fibonacci(FIRST + index);
    pthread_mutex_unlock(&turn);
    return result;
}

int main(void) {
    pthread_t threads[THREADS];
    pthread_mutex_lock(&turn);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, worker, &results[i]))
            return 2;
    pthread_mutex_unlock(&turn);
    long sum = 0;
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        sum += *(long *)result;
    }
    printf("four threads computed %ld\n", sum);
    return sum != EXPECTED;
}
