/* Words that a runner says to its host, which guests of `chv run` and of the SDK say in its place. */
#ifndef RUNNER_H
#define RUNNER_H
#include "console.h"

enum { RUN, STDIN, STDOUT, STDERR };

/* What the host has said last. */
#define LINE 16384
static char line[LINE];

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

/* Where `text` is in the line, or 0. */
static const char *in_line(const char *text)
{
	for (const char *at = line; *at; at++) {
		const char *a = at, *b = text;
		while (*b && *a == *b)
			a++, b++;
		if (!*b)
			return a;
	}
	return 0;
}

static u64 number_at(const char *at)
{
	u64 value = 0;
	while (*at && (*at < '0' || *at > '9'))
		at++;
	for (; *at >= '0' && *at <= '9'; at++)
		value = value * 10 + (*at - '0');
	return value;
}

#endif
