/* A byte queue of whole records. It is emptied after every call, so instead of wrapping it starts
 * again at its beginning whenever it has run empty. */
#include "events.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct hp_events {
    uint32_t head; /* next record to read */
    uint32_t tail; /* end of the last one written */
    uint32_t cap;
    uint8_t bytes[];
};

hp_events *hp_events_new(uint32_t bytes)
{
    hp_events *e = calloc(1, sizeof *e + bytes);
    if (e)
        e->cap = bytes;
    return e;
}

void hp_events_free(hp_events *e)
{
    free(e);
}

int hp_events_push(hp_events *e, uint32_t kind, int64_t t_ns, const void *first, size_t first_len,
                   const void *second, size_t second_len)
{
    size_t payload_len = first_len + second_len;
    if (payload_len > e->cap || sizeof(hp_event) + payload_len > e->cap - e->tail)
        return -ENOSPC;
    hp_event header = {.t_ns = t_ns, .kind = kind, .payload_len = (uint32_t)payload_len};
    uint8_t *at = e->bytes + e->tail;
    memcpy(at, &header, sizeof header);
    memcpy(at + sizeof header, first, first_len);
    if (second_len)
        memcpy(at + sizeof header + first_len, second, second_len);
    e->tail += (uint32_t)(sizeof header + payload_len);
    return 0;
}

size_t hp_events_room(const hp_events *e)
{
    return e->cap - e->tail;
}

int hp_events_pop(hp_events *e, hp_event *event, uint8_t *payload, size_t cap)
{
    if (e->head == e->tail)
        return 0;
    memcpy(event, e->bytes + e->head, sizeof *event);
    uint32_t len = event->payload_len;
    if (event->payload_len > cap)
        event->payload_len = (uint32_t)cap;
    memcpy(payload, e->bytes + e->head + sizeof *event, event->payload_len);
    e->head += (uint32_t)sizeof *event + len;
    if (e->head == e->tail)
        e->head = e->tail = 0;
    return 1;
}
