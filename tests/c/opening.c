/* A thread lays openings down; another frees them. Under the leak checker, all of them. */
#include "opening.h"
#include "require.h"

#include <pthread.h>

#define OPENINGS 20000

typedef struct ground {
    hp_laid_down laid_down;
    atomic_int laid;
} ground;

static void *lay_down_all(void *argument)
{
    ground *g = argument;
    for (int i = 0; i < OPENINGS; i++) {
        hp_opening *opening = calloc(1, sizeof *opening);
        require(opening);
        hp_opening_lay_down(&g->laid_down, opening);
        atomic_store(&g->laid, i + 1);
    }
    hp_opening_lay_down(&g->laid_down, NULL);
    return NULL;
}

int main(void)
{
    static ground g;
    pthread_t thread;
    require(pthread_create(&thread, NULL, lay_down_all, &g) == 0);
    while (atomic_load(&g.laid) < OPENINGS)
        hp_opening_free_all(&g.laid_down);
    require(pthread_join(thread, NULL) == 0);
    hp_opening_free_all(&g.laid_down);
    require(atomic_load(&g.laid_down) == NULL);
    return 0;
}
