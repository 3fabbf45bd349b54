#include "print.h"

static volatile u32 print_lock;

void put_char(char c)
{
	while (!(inb(COM1 + 5) & 0x20)) /* LSR: THR empty */
		pause();
	outb(COM1, c);
}

u8 get_char(void)
{
	while (!(inb(COM1 + 5) & 0x01)) /* LSR: data ready */
		pause();
	return inb(COM1);
}

static void put_number(u64 value, u32 base)
{
	char digits[24];
	u32 count = 0;
	do
		digits[count++] = "0123456789abcdef"[value % base];
	while (value /= base);
	while (count)
		put_char(digits[--count]);
}

static void put_text(const char *text)
{
	while (*text)
		put_char(*text++);
}

void print(const char *format, ...)
{
	__builtin_va_list arguments;
	__builtin_va_start(arguments, format);
	lock(&print_lock);
	for (; *format; format++) {
		if (*format != '%') {
			put_char(*format);
			continue;
		}
		switch (*++format) {
		case 'd': {
			long value = __builtin_va_arg(arguments, long);
			if (value < 0)
				put_char('-');
			put_number(value < 0 ? -(u64)value : (u64)value, 10);
			break;
		}
		case 'u':
			put_number(__builtin_va_arg(arguments, u64), 10);
			break;
		case 'x':
			put_text("0x");
			put_number(__builtin_va_arg(arguments, u64), 16);
			break;
		case 's':
			put_text(__builtin_va_arg(arguments, const char *));
			break;
		case 'c':
			put_char((char)__builtin_va_arg(arguments, int));
			break;
		default:
			put_char(*format);
		}
	}
	unlock(&print_lock);
	__builtin_va_end(arguments);
}
