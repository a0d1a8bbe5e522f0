/* check.h - assertions. What may happen is an error; what may not is an assertion. */
#pragma once

/** Prints the broken rule and aborts. Used by the macros below only. */
__attribute__((noreturn, cold)) void rb_check_fail(const char *rule, const char *file, int line);

/** Stays on in release builds. */
#define rb_assert(rule)                                                                            \
    do {                                                                                           \
        if (__builtin_expect(!(rule), 0)) {                                                        \
            rb_check_fail(#rule, __FILE__, __LINE__);                                              \
        }                                                                                          \
    } while (0)

/** Expensive rules: on in simulation and sanitizer builds (RB_SLOW_CHECKS). */
#ifdef RB_SLOW_CHECKS
#define rb_assert_slow(rule) rb_assert(rule)
#else
#define rb_assert_slow(rule) ((void)sizeof(rule))
#endif

#define rb_unreachable(why) rb_check_fail("unreachable: " why, __FILE__, __LINE__)
