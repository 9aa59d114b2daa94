/* What happened, queued for Python: one writer and one reader on the same thread. */
#ifndef HP_EVENTS_H
#define HP_EVENTS_H

#include "harpoon.h"

typedef struct hp_events hp_events;

/* Room for `bytes` of records. NULL when memory is short. */
hp_events *hp_events_new(uint32_t bytes);
void hp_events_free(hp_events *events);
/* A record of two parts, either of which may be empty. 0, or -ENOSPC: nothing was written. */
int hp_events_push(hp_events *events, uint32_t kind, int64_t t_ns, const void *first,
                   size_t first_len, const void *second, size_t second_len);
/* Bytes left; a record takes its payload and sizeof(hp_event). */
size_t hp_events_room(const hp_events *events);
/* 1 and the oldest record, or 0. A payload above `cap` is cut. */
int hp_events_pop(hp_events *events, hp_event *event, uint8_t *payload, size_t cap);

#endif
