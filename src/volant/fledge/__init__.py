"""fledge: an OCI image, a list of Debian packages or a script that makes an image becomes files that boot.

It knows nothing of volantd: what it leaves is a directory with a kernel, an initramfs, a root file system and the
manifest that names them by their content.
"""
