#ifndef KESTREL_DESCRIPTORS_H
#define KESTREL_DESCRIPTORS_H

/* How many descriptors kestrel may have, for hundreds of streams at once; its children get back what was usual. */
void descriptors_raise(void);
void descriptors_restore(void);

#endif
