// Quicksort of 400,000 words: loads, stores, unpredictable branches.
static unsigned words[400000];

static void sort(long low, long high) {
    while (low < high) {
        unsigned pivot = words[(low + high) / 2];
        long i = low, j = high;
        while (i <= j) {
            while (words[i] < pivot) ++i;
            while (words[j] > pivot) --j;
            if (i <= j) {
                unsigned t = words[i];
                words[i++] = words[j];
                words[j--] = t;
            }
        }
        sort(low, j);
        low = i;
    }
}
unsigned long work(void) {
    unsigned x = 1;
    for (long i = 0; i < 400000; ++i) words[i] = x = x * 1664525u + 1013904223u;
    sort(0, 399999);
    for (long i = 1; i < 400000; ++i)
        if (words[i - 1] > words[i]) return 0;
    return words[200000];
}
