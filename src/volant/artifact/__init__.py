"""The hand that keeps kernels, initramfs and rootfs images by their digest."""
