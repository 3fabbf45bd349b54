/*
 * A guest with tests: those named by `test=NAME,NAME` on the command line run in that order. Each
 * says `ok NAME`, or one line `not ok NAME: WHAT got GOT expected EXPECTED` for each thing that was
 * wrong. Failures are told after the test, when the serial port, which may itself be under test,
 * works again. The guest_main of such a guest is in test.c.
 */
#ifndef TEST_H
#define TEST_H
#include "boot.h"
#include "io.h"
#include "print.h"
#include "wait.h"

struct test {
	const char *name;
	void (*run)(void);
};

#define TEST(function, title)                                                           \
	static void function(void);                                                     \
	static const struct test function##_entry                                       \
		__attribute__((section(".tests"), used, aligned(8))) = { title, function }; \
	static void function(void)

/* `what` must outlive the test: a literal. */
void expect(const char *what, u64 got, u64 expected);
/* Whether anything went wrong in the test that runs. */
int failing(void);

/* With `until=told`: whether a byte has come on the serial port, for a guest that works until then. */
int told(void);

/* The serial port as `print` needs it: no interrupts, no loopback, 8 data bits, no FIFO. */
void serial_quiet(void);

#endif
