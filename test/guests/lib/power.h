/*
 * Ways to end or restart the machine. None returns. On QEMU, which has no sleep control register at
 * these ports, `platform=qemu` on the command line powers off through its isa-debug-exit device at
 * port 0xf4.
 */
#ifndef POWER_H
#define POWER_H

#define SLEEP_CONTROL 0x600 /* ACPI 6.5 section 4.8.3.7: SLP_TYPx in bits 4:2, SLP_EN in bit 5 */
#define RESET_PORT 0x602    /* FADT's RESET_REG */

void power_off(void) __attribute__((noreturn));
void reset_i8042(void) __attribute__((noreturn));
void reset_acpi(void) __attribute__((noreturn));
void triple_fault(void) __attribute__((noreturn));

#endif
