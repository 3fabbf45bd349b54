/* Registers of virtio-mmio, all 32 bits wide (virtio 1.2, table 4.1). */
#ifndef VIRTIO_MMIO_H
#define VIRTIO_MMIO_H
#include "virtio.h"

#define MMIO_MAGIC 0x00
#define MMIO_MAGIC_VALUE 0x74726976 /* "virt" */
#define MMIO_VERSION 0x04
#define MMIO_DEVICE 0x08
#define MMIO_VENDOR 0x0c
#define MMIO_DEVICE_FEATURES 0x10
#define MMIO_DEVICE_FEATURES_SEL 0x14
#define MMIO_DRIVER_FEATURES 0x20
#define MMIO_DRIVER_FEATURES_SEL 0x24
#define MMIO_QUEUE_SEL 0x30
#define MMIO_QUEUE_NUM_MAX 0x34
#define MMIO_QUEUE_NUM 0x38
#define MMIO_QUEUE_READY 0x44
#define MMIO_QUEUE_NOTIFY 0x50
#define MMIO_INTERRUPT_STATUS 0x60
#define MMIO_INTERRUPT_ACK 0x64
#define MMIO_STATUS 0x70
#define MMIO_QUEUE_DESC 0x80
#define MMIO_QUEUE_DRIVER 0x90
#define MMIO_QUEUE_DEVICE 0xa0
#define MMIO_SHM_SEL 0xac
#define MMIO_SHM_LEN 0xb0
#define MMIO_SHM_BASE 0xb8
#define MMIO_CONFIG_GENERATION 0xfc
#define MMIO_CONFIG 0x100

#endif
