/* Snapshots and restores: a stream goes out and comes back as it was; what goes wrong leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "js/api_inside.h"
#include "js_rig.h"

#define MS 1000000u

struct archive {
    uint8_t *bytes;
    size_t len;
};

static int setup(void **state)
{
    struct js_rig *rig = malloc(sizeof(*rig));
    assert_non_null(rig);
    js_rig_init(rig, 3);
    js_rig_open(rig);
    js_rig_listen(rig, "snap");
    js_rig_listen(rig, "ack");
    js_rig_listen(rig, "end");
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct js_rig *rig = *state;
    js_rig_close(rig);
    js_rig_deinit(rig);
    free(rig);
    return 0;
}

static void fill(struct js_rig *rig, int count)
{
    assert_non_null(js_rig_create(rig, "{\"name\":\"S\",\"subjects\":[\"s.>\"]}", NULL));
    for (int i = 0; i < count; i++) {
        char subject[32], body[512];
        (void)snprintf(subject, sizeof(subject), "s.%d", i % 7);
        memset(body, 'a' + i % 26, sizeof(body) - 1);
        body[sizeof(body) - 1] = '\0';
        js_rig_publish(rig, subject, NULL, i % 3 == 0 ? "A: b\r\n" : NULL, body);
    }
    js_rig_settle(rig);
    assert_non_null(js_rig_request(rig, "$JS.API.CONSUMER.DURABLE.CREATE.S.c", NULL,
                                   "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"c\","
                                   "\"ack_policy\":\"explicit\"}}"));
    assert_non_null(js_rig_request(rig, "$JS.API.CONSUMER.RESET.S.c", NULL, "{\"seq\":3}"));
    assert_non_null(js_rig_request(rig, "$JS.API.STREAM.MSG.DELETE.S", NULL, "{\"seq\":2}"));
}

/* Takes a snapshot as a client does; *ret_status is the last message's headers. */
static struct archive take_snapshot(struct js_rig *rig, bool ack, char ret_status[128])
{
    struct archive archive = { NULL, 0 };
    js_rig_forget(rig);
    assert_non_null(strstr(js_rig_request(rig, "$JS.API.STREAM.SNAPSHOT.S", NULL,
                                          "{\"deliver_subject\":\"snap\",\"chunk_size\":1024,"
                                          "\"window_size\":4096}"),
                           "\"state\":{\"messages\":"));
    ret_status[0] = '\0';
    uint32_t seen = 0, in_flight = 0;
    for (int round = 0; round < 20000; round++) {
        const struct js_rig_message *chunk = js_rig_nth(rig, "snap", seen);
        if (chunk == NULL) {
            js_rig_advance(rig, MS);
            in_flight = ack ? 0 : in_flight;
            continue;
        }
        seen++;
        if (chunk->len == chunk->header_len) {
            (void)snprintf(ret_status, 128, "%s", (const char *)chunk->payload);
            return archive;
        }
        archive.bytes = realloc(archive.bytes, archive.len + chunk->len);
        assert_non_null(archive.bytes);
        memcpy(archive.bytes + archive.len, chunk->payload, chunk->len);
        archive.len += chunk->len;
        in_flight++;
        assert_true(in_flight <= 5); /* the window, and the last one that nobody acknowledges */
        if (ack && chunk->reply != NULL && chunk->reply[0] != '\0') {
            js_rig_publish(rig, chunk->reply, NULL, NULL, "");
            in_flight--;
        }
    }
    fail_msg("the snapshot does not end");
    return archive;
}

/* Begins; gives the subject for the chunks. */
static void begin_restore(struct js_rig *rig, char subject[128])
{
    const char *got =
        js_rig_request(rig, "$JS.API.STREAM.RESTORE.S", NULL,
                       "{\"config\":{\"name\":\"S\",\"subjects\":[\"s.>\"]},\"state\":{}}");
    assert_non_null(got);
    const char *at = strstr(got, "\"deliver_subject\":\"");
    assert_non_null(at);
    at += strlen("\"deliver_subject\":\"");
    (void)snprintf(subject, 128, "%.*s", (int)(strchr(at, '"') - at), at);
    assert_memory_equal(subject, "$JS.SNAPSHOT.RESTORE.S.", 23);
}

static const char *finish_restore(struct js_rig *rig, const char *subject,
                                  const struct archive *archive, size_t chunk)
{
    js_rig_forget(rig);
    uint32_t sent = 0;
    for (size_t at = 0; at < archive->len; at += chunk) {
        size_t len = archive->len - at < chunk ? archive->len - at : chunk;
        js_rig_publish_bytes(rig, subject, "ack", 0, rb_slice_of(archive->bytes + at, len));
        js_rig_advance(rig, 20 * MS);
        assert_int_equal(js_rig_heard(rig, "ack"), ++sent);
        assert_int_equal(js_rig_nth(rig, "ack", sent - 1)->len, 0);
    }
    js_rig_publish_bytes(rig, subject, "end", 0, RB_S(""));
    js_rig_advance(rig, 200 * MS);
    const struct js_rig_message *end = js_rig_nth(rig, "end", 0);
    return end == NULL ? "" : end->body;
}

static void streams_come_back(void **state)
{
    struct js_rig *rig = *state;
    char status[128], subject[128], before[2048], after[2048];
    fill(rig, 100);
    (void)snprintf(
        before, sizeof(before), "%s",
        strstr(js_rig_request(rig, "$JS.API.STREAM.INFO.S", NULL, "{\"deleted_details\":true}"),
               "\"state\""));
    struct archive archive = take_snapshot(rig, true, status);
    assert_string_equal(status, "NATS/1.0 204\r\n\r\n");
    assert_true(js_rig_delete(rig, "S", NULL));
    begin_restore(rig, subject);
    const char *end = finish_restore(rig, subject, &archive, 3000);
    assert_non_null(strstr(end, "stream_create_response\",\"config\":{\"name\":\"S\",\"subjects\":"
                                "[\"s.\\u003e\"],"));
    (void)snprintf(
        after, sizeof(after), "%s",
        strstr(js_rig_request(rig, "$JS.API.STREAM.INFO.S", NULL, "{\"deleted_details\":true}"),
               "\"state\""));
    *strstr(before, ",\"cluster\"") = '\0';
    *strstr(after, ",\"cluster\"") = '\0';
    assert_string_equal(before, after);
    const char *consumer = js_rig_request(rig, "$JS.API.CONSUMER.INFO.S.c", NULL, "");
    assert_non_null(strstr(consumer, "\"ack_floor\":{\"consumer_seq\":0,\"stream_seq\":2}"));
    assert_non_null(strstr(js_rig_request(rig, "s.x", NULL, "new"), "\"seq\":101}"));
    free(archive.bytes);
}

/* An archive that fits into one chunk ends without a status, as nats-server's. */
static void small_streams_are_one_chunk(void **state)
{
    struct js_rig *rig = *state;
    char status[128];
    assert_non_null(js_rig_create(rig, "{\"name\":\"S\",\"subjects\":[\"s.>\"]}", NULL));
    struct archive archive = take_snapshot(rig, true, status);
    assert_string_equal(status, "");
    assert_memory_equal(archive.bytes, "\xff\x06\x00\x00S2sTwO", 10);
    free(archive.bytes);
}

static void receivers_that_stop_are_left(void **state)
{
    struct js_rig *rig = *state;
    char status[128];
    fill(rig, 100);
    struct archive archive = take_snapshot(rig, false, status);
    assert_string_equal(status, "NATS/1.0 408 No Flow Response\r\n\r\n");
    assert_int_equal(archive.len, 4096); /* the window */
    free(archive.bytes);
    js_rig_forget(rig);
    assert_non_null(
        js_rig_request(rig, "$JS.API.STREAM.SNAPSHOT.S", NULL, "{\"deliver_subject\":\"nobody\"}"));
    struct rb_js_api *api = js_rig_js_account(rig)->api;
    assert_int_equal(api->transfer_count, 1);
    js_rig_advance(rig, UINT64_C(3000) * MS);
    assert_int_equal(api->transfer_count, 0);
}

static void damaged_archives_leave_nothing(void **state)
{
    struct js_rig *rig = *state;
    char status[128], subject[128];
    fill(rig, 30);
    struct archive archive = take_snapshot(rig, true, status);
    assert_true(js_rig_delete(rig, "S", NULL));
    archive.bytes[archive.len - 100] ^= 1;
    begin_restore(rig, subject);
    const char *end = finish_restore(rig, subject, &archive, 100000);
    assert_non_null(strstr(end,
                           "\"err_code\":10062,\"description\":\"restore failed: checksum does "
                           "not match\""));
    assert_null(js_rig_stream(rig, "S"));
    archive.len /= 2; /* cut */
    begin_restore(rig, subject);
    end = finish_restore(rig, subject, &archive, 100000);
    assert_non_null(strstr(end, "restore failed: unexpected EOF"));
    assert_null(js_rig_stream(rig, "S"));
    free(archive.bytes);
}

static void abandoned_restores_leave_nothing(void **state)
{
    struct js_rig *rig = *state;
    char status[128], subject[128];
    fill(rig, 30);
    struct archive archive = take_snapshot(rig, true, status);
    assert_true(js_rig_delete(rig, "S", NULL));
    begin_restore(rig, subject);
    js_rig_publish_bytes(rig, subject, "ack", 0, rb_slice_of(archive.bytes, archive.len));
    js_rig_advance(rig, 200 * MS);
    assert_non_null(js_rig_stream(rig, "S"));
    assert_null(js_rig_request(rig, "s.x", NULL, "stray")); /* it listens to nobody's subject yet */
    js_rig_advance(rig, UINT64_C(12000) * MS);
    struct rb_js_api *api = js_rig_js_account(rig)->api;
    assert_int_equal(api->transfer_count, 0);
    assert_null(js_rig_stream(rig, "S"));
    free(archive.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(streams_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(small_streams_are_one_chunk, setup, teardown),
        cmocka_unit_test_setup_teardown(receivers_that_stop_are_left, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_archives_leave_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(abandoned_restores_leave_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
