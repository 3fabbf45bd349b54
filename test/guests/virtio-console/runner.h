/* Words that a runner says to its host, which guests of `chv run` and of the SDK say in its place. */
#ifndef RUNNER_H
#define RUNNER_H
#include "console.h"

enum { RUN, STDIN, STDOUT, STDERR };

static u32 length_of(const char *text)
{
	u32 length = 0;
	while (text[length])
		length++;
	return length;
}

static void tell(u32 port, const char *text)
{
	say(port, text, length_of(text));
}

/* Appends text and a number. */
static char *put(char *at, const char *text, u64 number)
{
	char digits[24];
	u32 many = 0;
	while (*text)
		*at++ = *text++;
	do
		digits[many++] = '0' + number % 10;
	while (number /= 10);
	while (many)
		*at++ = digits[--many];
	*at = 0;
	return at;
}

static void ended(const char *how, u64 number, u64 out, u64 err)
{
	char text[128];
	char *at = put(put(put(text, how, number), " ", out), " ", err);
	*at++ = '\n';
	*at = 0;
	tell(RUN, text);
}

#endif
