/* fuzz_gojson.c - what another parser accepts is JSON, and a refusal always says why. jansson takes a NUL for the end. */
#include <jansson.h>

#include "ringbus/check.h"
#include "proto/gojson.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char error[RB_GOJSON_ERROR_MAX] = "";
    bool valid = rb_gojson_valid(rb_slice_of(data, size), error);
    rb_assert(valid == (error[0] == '\0'));
    json_error_t why;
    json_t *json = json_loadb((const char *)data, size, JSON_DECODE_ANY, &why);
    rb_assert(json == NULL || valid || memchr(data, 0, size) != NULL);
    json_decref(json);
    return 0;
}
