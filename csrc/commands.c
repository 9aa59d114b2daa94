/* What the one controlling thread asks of the hot thread: posted here, carried out here. */
#include "engine.h"

#include <errno.h>
#include <string.h>

/* ---- the controlling thread ------------------------------------------------------------------ */

static int post(hp_engine *e, int command, int session, int64_t number, const uint8_t *bytes,
                size_t len)
{
    int rc = hp_inbox_put(e->commands, command, session, number, bytes, len);
    if (rc == 0)
        hp_io_wake(&e->io);
    return rc;
}

static int is_session(int session)
{
    return session >= 0 && session < HP_SESSIONS;
}

int hp_engine_command(hp_engine *e, int command, int session, int64_t number,
                      const uint8_t *bytes, size_t len)
{
    if (command == HP_COMMAND_CONNECT || command < 0 || command > UINT16_MAX ||
        session < INT16_MIN || session > INT16_MAX)
        return -EINVAL;
    return post(e, command, session, number, bytes, len);
}

/* What is posted is the opening's address: whoever takes the command has the opening. */
int hp_engine_command_connect(hp_engine *e, int session, const hp_venue_address *venue)
{
    int rc = -EINVAL;
    hp_opening_free_all(&e->laid_down);
    hp_opening *opening = is_session(session) ? hp_opening_new(venue, &rc) : NULL;
    if (!opening)
        return rc;
    rc = post(e, HP_COMMAND_CONNECT, session, venue->port, (const uint8_t *)&opening,
              sizeof opening);
    if (rc < 0)
        hp_opening_free(opening);
    return rc;
}

/* ---- the hot thread -------------------------------------------------------------------------- */

static hp_opening *opening_of(const hp_inbox_item *item)
{
    hp_opening *opening;
    memcpy(&opening, item->bytes, sizeof opening);
    return opening;
}

void hp_engine_drop_commands(hp_engine *e)
{
    hp_inbox_item item;
    for (; e->commands && hp_inbox_next(e->commands, &item); hp_inbox_done(e->commands))
        if (item.kind == HP_COMMAND_CONNECT)
            hp_opening_free(opening_of(&item));
}

int hp_engine_open_next(hp_engine *e, int session)
{
    hp_link *link = &e->links[session];
    hp_opening *next = link->next;
    if (!next || !hp_session_is_closed(link->session) || link->told != HP_TOLD_CLOSED)
        return 0;
    link->next = NULL;
    link->told = HP_TOLD_OPENING; /* so that its end is told even if it is at once */
    return hp_session_start(link->session, next);
}

static int connect_to(hp_engine *e, const hp_inbox_item *item)
{
    hp_link *link = &e->links[item->session];
    hp_opening *opening = opening_of(item);
    if (link->next) {
        hp_opening_lay_down(&e->laid_down, opening);
        return -EBUSY;
    }
    link->next = opening;
    link->held = 1;
    hp_session_close(link->session);
    hp_engine_notice(e);
    return hp_engine_open_next(e, item->session);
}

static int leave(hp_engine *e, hp_link *link)
{
    hp_opening_lay_down(&e->laid_down, link->next);
    link->next = NULL;
    hp_session_close(link->session);
    return 0;
}

static int hold(hp_engine *e, int session, int held)
{
    if (session == HP_EVERY_SESSION)
        e->held = held != 0;
    else
        e->links[session].held = held != 0;
    return 0;
}

/* Of one session, which there is. */
static int carry_out_on(hp_engine *e, const hp_inbox_item *item)
{
    switch (item->kind) {
    case HP_COMMAND_CONNECT:
        return connect_to(e, item);
    case HP_COMMAND_TEXT:
        return hp_session_send_text(e->links[item->session].session, item->bytes, item->len);
    case HP_COMMAND_CLOSE:
        return leave(e, &e->links[item->session]);
    default: /* HP_COMMAND_PREFER */
        e->preferred = (uint8_t)item->session;
        return 0;
    }
}

static int carry_out(hp_engine *e, const hp_inbox_item *item)
{
    switch (item->kind) {
    case HP_COMMAND_CONNECT:
    case HP_COMMAND_TEXT:
    case HP_COMMAND_CLOSE:
    case HP_COMMAND_PREFER:
        return is_session(item->session) ? carry_out_on(e, item) : -EINVAL;
    case HP_COMMAND_HOLD:
        return item->session == HP_EVERY_SESSION || is_session(item->session)
                   ? hold(e, item->session, item->number != 0)
                   : -EINVAL;
    case HP_COMMAND_LISTEN:
        e->listening = 1;
        return 0;
    case HP_COMMAND_CLOCK_OFFSET:
        return hp_engine_set_clock_offset(e, item->number);
    case HP_COMMAND_STOP:
        e->stopping = 1;
        return 0;
    default:
        return hp_limits_obey(e, item);
    }
}

static void obey(hp_engine *e, const hp_inbox_item *item)
{
    hp_command_note note = {
        .value = item->number,
        .command = item->kind,
        .session = item->session,
    };
    note.error = carry_out(e, item);
    if (item->kind != HP_COMMAND_PRICE || note.error < 0)
        hp_engine_record(e, HP_RECORD_COMMAND, &note, sizeof note, NULL, 0);
    hp_engine_notice(e);
}

int hp_engine_take_command(hp_engine *e)
{
    hp_inbox_item item;
    if (!hp_inbox_next(e->commands, &item))
        return 0;
    obey(e, &item);
    hp_inbox_done(e->commands);
    return 1;
}
