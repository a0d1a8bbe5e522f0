/* crc32c.h - the checksum of S2 streams. */
#pragma once

#include <stdint.h>

#include "ringbus/slice.h"

/** Goes on from `crc`; 0 at first. */
uint32_t rb_crc32c(uint32_t crc, struct rb_slice bytes);
