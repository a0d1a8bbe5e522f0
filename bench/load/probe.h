/* probe.h - what is read from the machine: clocks, CPU time and memory of a process. */
#pragma once

#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

/** The monotonic clock. */
uint64_t rb_probe_now_ns(void);
/** Sleeps until the monotonic clock says so. */
void rb_probe_sleep_until(uint64_t when_ns);
/** CPU time of all threads of `pid`, ended ones too, in user space and kernel. Dies when there is
 * no such process. */
uint64_t rb_probe_cpu_ns(pid_t pid);
/** CPU time of this process, and of one of its threads. */
uint64_t rb_probe_own_cpu_ns(void);
uint64_t rb_probe_thread_cpu_ns(pthread_t thread);
/** Resident bytes of `pid`, exact (not the batched counters of /proc/PID/status where the kernel
 * has better). */
uint64_t rb_probe_rss_bytes(pid_t pid);
