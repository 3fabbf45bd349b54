/* struct virtio_pci_common_cfg (virtio 1.2, section 4.1.4.3), and MSI-X entries. */
#ifndef VIRTIO_PCI_H
#define VIRTIO_PCI_H
#include "pci.h"
#include "virtio.h"

#define COMMON_DEVICE_FEATURE_SELECT 0
#define COMMON_DEVICE_FEATURE 4
#define COMMON_DRIVER_FEATURE_SELECT 8
#define COMMON_DRIVER_FEATURE 12
#define COMMON_CONFIG_VECTOR 16
#define COMMON_QUEUES 18
#define COMMON_STATUS 20
#define COMMON_GENERATION 21
#define COMMON_QUEUE_SELECT 22
#define COMMON_QUEUE_SIZE 24
#define COMMON_QUEUE_VECTOR 26
#define COMMON_QUEUE_ENABLE 28
#define COMMON_QUEUE_NOTIFY_OFF 30
#define COMMON_QUEUE_DESC 32
#define COMMON_QUEUE_DRIVER 40
#define COMMON_QUEUE_DEVICE 48

#define MSIX_CONTROL 2 /* in the capability */
#define MSIX_ENABLE 0x8000
#define MSIX_FUNCTION_MASK 0x4000
#define MSIX_ENTRY 16
#define MSIX_ENTRY_DATA 8
#define MSIX_ENTRY_CONTROL 12

#endif
