/* Streams over the model of the message store: what each published message becomes, in the order of the checks, and what the
 * publisher is told, byte for byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "js_rig.h"

static int setup(void **state)
{
    struct js_rig *rig = malloc(sizeof(*rig));
    assert_non_null(rig);
    js_rig_init(rig, 7);
    js_rig_open(rig);
    assert_true(rig->js->ready_to_serve);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct js_rig *rig = *state;
    if (rig->js != NULL) {
        js_rig_close(rig);
    }
    js_rig_deinit(rig);
    free(rig);
    return 0;
}

static void make(struct js_rig *rig, const char *json)
{
    struct rb_js_error error;
    if (js_rig_create(rig, json, &error) == NULL) {
        fail_msg("%s: %u %s", json, error.code, error.text);
    }
}

static void expect(struct js_rig *rig, const char *subject, const char *headers, const char *body,
                   const char *wanted)
{
    const char *got = js_rig_request(rig, subject, headers, body);
    if (got == NULL || strcmp(got, wanted) != 0) {
        fail_msg("%s %s: expected %s, got %s", subject, headers == NULL ? "" : headers, wanted,
                 got == NULL ? "nothing" : got);
    }
}

#define OK(name, seq) "{\"stream\":\"" name "\",\"seq\":" #seq "}"
#define ERR(name, status, code, text)                                                              \
    "{\"error\":{\"code\":" #status ",\"err_code\":" #code ",\"description\":\"" text              \
    "\"},\"stream\":\"" name "\",\"seq\":0}"

static void plain_messages(void **state)
{
    struct js_rig *rig = *state;
    make(rig, "{\"name\":\"S\",\"subjects\":[\"s.>\"]}");
    expect(rig, "s.a", NULL, "x", OK("S", 1));
    expect(rig, "s.b", NULL, "y", OK("S", 2));
    js_rig_publish(rig, "s.c", NULL, NULL, "z");
    js_rig_settle(rig);
    struct rb_msgstore_state store;
    rb_msgstore_state(js_rig_stream(rig, "S")->store, &store);
    assert_int_equal(store.messages, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(plain_messages, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
