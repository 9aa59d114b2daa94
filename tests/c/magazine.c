/* Rounds that cannot be framed, as when the kernel gives no random bytes: none of them is taken for
 * one whose frame is there, which would be a former order's. */
#include "session.h"

#include <errno.h>

static int frames_left;

static int fake_frame(hp_session *session, int opcode, const uint8_t *payload, size_t len,
                      uint8_t *out, size_t cap)
{
    (void)session, (void)opcode;
    if (frames_left == 0 || len > cap)
        return -ENOSYS;
    frames_left--;
    for (size_t i = 0; i < len; i++)
        out[i] = payload[i];
    return (int)len;
}

static int fake_arm(hp_session *session, int slot, const uint8_t *frame, size_t len)
{
    (void)session, (void)slot, (void)frame, (void)len;
    return 1;
}

static int fake_is_armed(const hp_session *session, int slot)
{
    (void)session, (void)slot;
    return 1;
}

#define hp_session_frame fake_frame
#define hp_session_arm fake_arm
#define hp_session_is_armed fake_is_armed

#include "../../csrc/magazine.c"
#include "require.h"

#define BLANKS "hp00000000000000000000-0000000000000" "1111111111111"
#define ROUNDS 3
#define REARM_NS 1000

static hp_magazine magazine;

static int is_whole(uint32_t i)
{
    const hp_round *round = &magazine.rounds[i];
    return !memcmp(round->frame, round->framed.client_id, HP_CLIENT_ID_LEN);
}

static void require_framed(unsigned rounds, int64_t now_ns)
{
    for (uint32_t i = 0; i < ROUNDS; i++) {
        require(hp_magazine_is_framed(&magazine, i, now_ns) == (int)(rounds >> i & 1));
        require(!(rounds >> i & 1) || is_whole(i));
    }
}

static void arm_all(int64_t now_ns)
{
    frames_left = ROUNDS;
    while (hp_magazine_step(&magazine, 1, now_ns) > 0)
        ;
    require_framed((1u << ROUNDS) - 1, now_ns);
}

int main(void)
{
    static const uint8_t text[] = BLANKS;
    const hp_order_template order = {
        .body = text,
        .payload = text,
        .body_len = sizeof text - 1,
        .body_request_id_at = 0,
        .body_client_id_at = 0,
        .body_timestamp_at = HP_CLIENT_ID_LEN,
    };
    magazine.rearm_ns = REARM_NS;
    for (magazine.n = 0; magazine.n < ROUNDS; magazine.n++)
        require(hp_order_init(&magazine.orders[magazine.n], &order) == 0);
    frames_left = 1;
    require(hp_magazine_step(&magazine, 1, 1) == -ENOSYS);
    require_framed(1, 1);
    arm_all(2);
    frames_left = 1;
    require(hp_magazine_step(&magazine, 1, 2 + REARM_NS) == -ENOSYS);
    require_framed(1, 2 + REARM_NS);
    arm_all(3 + REARM_NS);
    return 0;
}
