/* command.c - commands as bytes.
 *
 *   0  1  flags            4   4  header bytes of `text`      8  8  time_ns     16  8  seq     24  8  value
 *   1  1  reserved, 0     32   4  bytes of `text`            36     name, subject, text
 *   2  1  bytes of `name`
 *   3  1  reserved, 0     `subject` has what is left between name and text
 */
#include "js/command.h"

#include <string.h>

#include "ringbus/check.h"

#define HEAD_BYTES 36u

size_t rb_command_bytes(const struct rb_command *command)
{
    return HEAD_BYTES + command->name.len + command->subject.len + command->text.len;
}

static uint8_t *put(uint8_t *at, struct rb_slice text)
{
    if (text.len > 0) {
        memcpy(at, text.ptr, text.len);
    }
    return at + text.len;
}

static uint8_t *put_number(uint8_t *at, uint64_t value, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> 8 * i);
    }
    return at + bytes;
}

void rb_command_encode(const struct rb_command *command, uint8_t *out)
{
    rb_assert(command->name.len <= UINT8_MAX && command->text.len <= UINT32_MAX &&
              command->header_len <= command->text.len);
    uint8_t *at = out;
    *at++ = command->flags;
    *at++ = 0;
    *at++ = (uint8_t)command->name.len;
    *at++ = 0;
    at = put_number(at, command->header_len, 4);
    at = put_number(at, command->time_ns, 8);
    at = put_number(at, command->seq, 8);
    at = put_number(at, command->value, 8);
    at = put_number(at, command->text.len, 4);
    rb_assert(at == out + HEAD_BYTES);
    (void)put(put(put(at, command->name), command->subject), command->text);
}

static uint64_t get_number(const uint8_t *at, uint32_t bytes)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < bytes; i++) {
        value |= (uint64_t)at[i] << 8 * i;
    }
    return value;
}

enum rb_err rb_command_decode(uint8_t type, struct rb_slice body, struct rb_command *ret_command)
{
    if (type < RB_COMMAND_PUBLISH || type > RB_COMMAND_SKIP || body.len < HEAD_BYTES) {
        return RB_ERR_CORRUPT;
    }
    const uint8_t *at = body.ptr;
    struct rb_command command = {
        .type = type,
        .flags = at[0],
        .header_len = (uint32_t)get_number(at + 4, 4),
        .time_ns = get_number(at + 8, 8),
        .seq = get_number(at + 16, 8),
        .value = get_number(at + 24, 8),
    };
    size_t name_len = at[2], text_len = (size_t)get_number(at + 32, 4);
    size_t left = body.len - HEAD_BYTES;
    if (at[1] != 0 || at[3] != 0 || name_len > left || text_len > left - name_len ||
        command.header_len > text_len) {
        return RB_ERR_CORRUPT;
    }
    at += HEAD_BYTES;
    command.name = rb_slice_of(at, name_len);
    command.subject = rb_slice_of(at + name_len, left - name_len - text_len);
    command.text = rb_slice_of(body.ptr + body.len - text_len, text_len);
    *ret_command = command;
    return RB_OK;
}
