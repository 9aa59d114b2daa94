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

/* The strings one behind the other, each with its NUL; port and time in the number. */
int hp_engine_command_connect(hp_engine *e, int session, const hp_venue_address *venue)
{
    const char *strings[] = {venue->ip, venue->host, venue->path,
                             venue->ca_file ? venue->ca_file : ""};
    char bytes[8192];
    size_t len = 0;
    if (!is_session(session))
        return -EINVAL;
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        size_t more = strlen(strings[i]) + 1;
        if (more > sizeof bytes - len)
            return -HP_ECONFIG;
        memcpy(bytes + len, strings[i], more);
        len += more;
    }
    if (venue->timeout_ns > INT64_MAX >> 16)
        return -HP_ECONFIG;
    int64_t number = (int64_t)(venue->timeout_ns << 16 | venue->port);
    return post(e, HP_COMMAND_CONNECT, session, number, (const uint8_t *)bytes, len);
}

/* ---- the hot thread -------------------------------------------------------------------------- */

/* The strings of a command, one behind the other, each with its NUL. */
static int connect_to(hp_engine *e, const hp_inbox_item *item)
{
    hp_link *link = &e->links[item->session];
    const char *ip = (const char *)item->bytes;
    const char *host = ip + strlen(ip) + 1;
    const char *path = host + strlen(host) + 1;
    const char *ca_file = path + strlen(path) + 1;
    hp_venue_address venue = {
        .ip = ip,
        .host = host,
        .path = path,
        .ca_file = *ca_file ? ca_file : NULL,
        .timeout_ns = (uint64_t)item->number >> 16,
        .port = (uint16_t)item->number,
    };
    hp_session_close(link->session);
    hp_engine_notice(e);
    link->held = 1;
    link->told = HP_TOLD_OPENING; /* so that its end is told even if it is at once */
    return hp_session_start(link->session, &venue);
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
    hp_session *session = e->links[item->session].session;
    switch (item->kind) {
    case HP_COMMAND_CONNECT:
        return connect_to(e, item);
    case HP_COMMAND_TEXT:
        return hp_session_send_text(session, item->bytes, item->len);
    case HP_COMMAND_CLOSE:
        hp_session_close(session);
        return 0;
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
