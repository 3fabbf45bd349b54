/* Registers of the 16550A, by offset. */
#ifndef SERIAL_H
#define SERIAL_H

enum { RBR = 0, THR = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };
enum { DLL = 0, DLM = 1 }; /* with LCR bit 7 */
enum { IER_RECEIVE = 1, IER_TRANSMIT = 2, IER_LINE = 4, IER_MODEM = 8 };
enum { IIR_NONE = 1, IIR_MODEM = 0, IIR_TRANSMIT = 2, IIR_RECEIVE = 4, IIR_LINE = 6 };
enum { IIR_TIMEOUT = 12 };
enum { LSR_DR = 0x01, LSR_THRE = 0x20 };
#define SERIAL_PIN 4

#endif
