#include <string.h>

#include "health.h"

static const char FORM[] = "HTTP/1.? ???"; /* ? stands for a digit */

int health_read_status(const char *answer, size_t length)
{
    size_t size = sizeof FORM - 1;
    for (size_t i = 0; i < length && i < size; i++) {
        bool digit = answer[i] >= '0' && answer[i] <= '9';
        if (FORM[i] == '?' ? !digit : answer[i] != FORM[i])
            return -1;
    }
    if (length <= size)
        return 0;
    if (answer[size] != ' ' && answer[size] != '\r' && answer[size] != '\n')
        return -1;
    return (answer[9] - '0') * 100 + (answer[10] - '0') * 10 + (answer[11] - '0');
}
