#include "staged.h"

#include <string.h>

#include "frame.h"
#include "message.h"
#include "record.h"

size_t staged_take(struct staged *staged, uint8_t *to, size_t room)
{
    size_t left = staged->length - staged->sent;
    size_t taken = left < room ? left : room;
    memcpy(to, staged->bytes + staged->sent, taken);
    staged->sent += taken;
    if (staged->sent == staged->length)
        staged->sent = staged->length = 0;
    return taken;
}

struct writer staged_begin(struct staged *staged)
{
    return (struct writer){.bytes = (char *)staged->bytes + staged->length, .capacity = sizeof staged->bytes - staged->length, .length = MESSAGE_HEAD};
}

void staged_finish(struct staged *staged, const struct writer *writer)
{
    store_u32(staged->bytes + staged->length, (uint32_t)(writer->length - MESSAGE_HEAD));
    staged->length += writer->length;
}

void staged_error(struct staged *staged, const char *code, const char *text)
{
    char brief[256];
    size_t length = strnlen(text, sizeof brief - 1);
    memcpy(brief, text, length);
    brief[length] = '\0';
    struct writer writer = staged_begin(staged);
    write_text(&writer, "{\"error\":{\"code\":");
    write_quoted(&writer, code);
    write_text(&writer, ",\"message\":");
    write_quoted(&writer, brief); /* at most six times as long, which fits */
    write_text(&writer, "}}");
    staged_finish(staged, &writer);
}

void staged_end(struct staged *staged, bool signalled, int number)
{
    uint8_t *to = staged->bytes + staged->length;
    struct writer writer = {.bytes = (char *)to, .capacity = sizeof staged->bytes - staged->length, .length = RECORD_HEAD};
    write_text(&writer, signalled ? "{\"signal\": " : "{\"code\": ");
    write_integer(&writer, number);
    write_text(&writer, "}");
    to[0] = RECORD_END;
    store_u32(to + 1, (uint32_t)(writer.length - RECORD_HEAD));
    staged->length += writer.length;
}
