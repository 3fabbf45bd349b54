/* Waiting with an end: a guest that hangs says what it waited for. */
#ifndef WAIT_H
#define WAIT_H
#include "io.h"

/*
 * One to two minutes on the TSCs of today: an interrupt that never comes, not one that is late on a
 * busy host.
 */
#define PATIENCE (1ul << 38)
/* At most half a second likewise: whatever took longer was not this guest's doing. */
#define MOMENT (1ul << 30)

/*
 * Waits until `condition`; gives whether it came true. Looks once in each turn: a look may change a
 * register.
 */
#define WAIT(condition)                                                                     \
	({                                                                                  \
		u64 wait_start = rdtsc();                                                   \
		int wait_over;                                                              \
		while (!(wait_over = !!(condition)) && rdtsc() - wait_start < PATIENCE)     \
			pause();                                                            \
		wait_over;                                                                  \
	})

/* Some turns of doing nothing, in which an interrupt that is not to come would come. */
static inline void linger(void)
{
	for (u32 turn = 0; turn < 2000; turn++)
		pause();
}

#endif
