/* command.c - commands as bytes.
 *
 *   0  1  flags            4   4  header bytes of `text`      8  8  time_ns     16  8  seq     24  8  value
 *   1  1  reserved, 0     32   4  bytes of `text`            36     name, subject, text
 *   2  1  bytes of `name`
 *   3  1  reserved, 0     `subject` has what is left between name and text
 */
#include "js/command.h"

#include "ringbus/check.h"

#define HEAD_BYTES 36u

size_t rb_command_bytes(const struct rb_command *command)
{
    return HEAD_BYTES + command->name.len + command->subject.len + command->text.len;
}

void rb_command_encode(const struct rb_command *command, uint8_t *out)
{
    rb_assert(command->name.len <= UINT8_MAX && command->text.len <= UINT32_MAX &&
              command->header_len <= command->text.len);
    struct rb_writer writer = rb_writer_over(out, rb_command_bytes(command));
    rb_write_u8(&writer, command->flags);
    rb_write_u8(&writer, 0);
    rb_write_u8(&writer, (uint8_t)command->name.len);
    rb_write_u8(&writer, 0);
    rb_write_u32(&writer, command->header_len);
    rb_write_u64(&writer, command->time_ns);
    rb_write_u64(&writer, command->seq);
    rb_write_u64(&writer, command->value);
    rb_write_u32(&writer, (uint32_t)command->text.len);
    rb_write_slice(&writer, command->name);
    rb_write_slice(&writer, command->subject);
    rb_write_slice(&writer, command->text);
    rb_assert(writer.ok && writer.at == writer.end);
}

enum rb_err rb_command_decode(uint8_t type, struct rb_slice body, struct rb_command *ret_command)
{
    if (type < RB_COMMAND_PUBLISH || type > RB_COMMAND_SKIP || body.len < HEAD_BYTES) {
        return RB_ERR_CORRUPT;
    }
    struct rb_command command = { .type = type };
    struct rb_reader reader = rb_reader_over(body);
    command.flags = rb_read_u8(&reader);
    uint8_t reserved = rb_read_u8(&reader);
    size_t name_len = rb_read_u8(&reader);
    reserved |= rb_read_u8(&reader);
    command.header_len = rb_read_u32(&reader);
    command.time_ns = rb_read_u64(&reader);
    command.seq = rb_read_u64(&reader);
    command.value = rb_read_u64(&reader);
    size_t text_len = rb_read_u32(&reader);
    size_t left = body.len - HEAD_BYTES;
    if (reserved != 0 || name_len > left || text_len > left - name_len ||
        command.header_len > text_len) {
        return RB_ERR_CORRUPT;
    }
    command.name = rb_read_slice(&reader, name_len);
    command.subject = rb_read_slice(&reader, left - name_len - text_len);
    command.text = rb_read_slice(&reader, text_len);
    rb_assert(rb_reader_ok(&reader));
    *ret_command = command;
    return RB_OK;
}
