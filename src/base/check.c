/* check.c - the end of the line for broken rules, and the texts of the error codes.
 *
 * 1. A failing rule may have been broken by anything, so the way out uses neither the heap nor
 *    stdio's buffers: one line on the stack, one write(2), abort().
 * 2. Every error code has a text; a code without one does not pass the unit test.
 */
#include "ringbus/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ringbus/errors.h"

void rb_check_fail(const char *rule, const char *file, int line)
{
    char text[1024];
    int len = snprintf(text, sizeof(text), "ringbus: broken rule: %s (%s:%d)\n", rule, file, line);
    if (len >= (int)sizeof(text)) {
        len = (int)sizeof(text) - 1;
        text[len - 1] = '\n';
    }
    if (len > 0 && write(STDERR_FILENO, text, (size_t)len) < 0) {
        abort(); /* nowhere left to say it */
    }
    abort();
}

const char *rb_err_text(enum rb_err err)
{
    switch (err) {
    case RB_OK:
        return "success";
    case RB_ERR_MEMORY:
        return "out of memory";
    case RB_ERR_FULL:
        return "no room left";
    case RB_ERR_CORRUPT:
        return "corrupt data";
    case RB_ERR_INVALID:
        return "invalid value";
    case RB_ERR_UNSUPPORTED:
        return "not supported";
    case RB_ERR_STALE:
        return "no longer valid";
    case RB_ERR_BUSY:
        return "already in progress";
    case RB_ERR_ADDRESS:
        return "address not usable";
    case RB_ERR_IN_USE:
        return "address already in use";
    case RB_ERR_RESET:
        return "connection closed by peer";
    case RB_ERR_CANCELED:
        return "canceled";
    case RB_ERR_TIMEOUT:
        return "timed out";
    case RB_ERR_LIMIT:
        return "system limit reached";
    case RB_ERR_IO:
        return "input/output error";
    case RB_ERR_SPACE:
        return "no space left on the disk";
    case RB_ERR_MISSING:
        return "does not exist";
    case RB_ERR_COUNT:
        break;
    }
    return "unknown error";
}
