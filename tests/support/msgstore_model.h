/* msgstore_model.h - what a test may do to the naive message store that a real one does on its own.
 *
 * tests/support/msgstore_model.c has every function of ringbus/msgstore.h, in arrays and memory. Link `lib_msgstore_model`
 * (tests/support/meson.build) to test what stands on the store without a disk: it takes the place of the real one.
 *
 * A home whose options name a disk keeps file stores: checkpoints are deep copies on a shelf of the process, found again by
 * any later home with the same disk pointer. The disk itself is never called. rb_msgstore_model_wipe() empties the shelf.
 */
#pragma once

#include "ringbus/msgstore.h"

/**
 * From now on bodies of the store are cold: a get answers RB_ERR_BUSY, the next poll gives LOADED, the get after it
 * succeeds once, and the body is cold again.
 */
void rb_msgstore_model_set_cold(struct rb_msgstore *store, bool cold);
/** While held, no LOADED comes out of the home. */
void rb_msgstore_model_hold_loads(struct rb_msgstore_home *home, bool hold);
/** While held, checkpoints stay in flight. */
void rb_msgstore_model_hold_checkpoints(struct rb_msgstore_home *home, bool hold);
/** Checkpoints begun from now on end with `err` and leave the ones before as they are; RB_OK ends that. */
void rb_msgstore_model_fail_checkpoints(struct rb_msgstore_home *home, enum rb_err err);
/** Stores opened from now on are OPENED with `err`; RB_OK ends that. */
void rb_msgstore_model_fail_opens(struct rb_msgstore_home *home, enum rb_err err);
/** The body reads as RB_ERR_CORRUPT, and the first read is named by a DAMAGED event. False: it is not there. */
bool rb_msgstore_model_damage(struct rb_msgstore *store, uint64_t seq);
/** What rb_msgstore_home_pressure() answers. */
void rb_msgstore_model_set_pressure(struct rb_msgstore_home *home, bool pressure);
/** Ends the home as a crash would: no store is closed, no event comes, what was checkpointed is on the shelf. */
void rb_msgstore_model_crash(struct rb_msgstore_home *home);
/** Forgets the file stores of every disk. */
void rb_msgstore_model_wipe(void);
