#include "mount_list.h"

#include <stdio.h>
#include <string.h>

enum { SERIAL_MAX = 20, PATH_MAX_BYTES = 255, FILESYSTEM_MAX = 15 };

static bool is_path(const char *path)
{
    if (path[0] != '/' || path[1] == '\0' || strlen(path) > PATH_MAX_BYTES)
        return false;
    for (const char *part = path; part != NULL; part = strchr(part + 1, '/'))
        if (strncmp(part, "/../", 4) == 0 || strcmp(part, "/..") == 0)
            return false;
    return true;
}

static bool read_mount(const struct place *place, struct mount *mount)
{
    if (!place_text(place, "disk", NULL, &mount->disk) || !place_text(place, "path", NULL, &mount->path) ||
        !place_text(place, "filesystem", "", &mount->filesystem))
        return false;
    if (!is_made_of(mount->disk, SERIAL_MAX, "_.-"))
        return place_blame(place, "disk", "not a serial of 1 to 20 letters, digits, _ . -");
    if (!is_path(mount->path))
        return place_blame(place, "path", "not an absolute path without .. of at most 255 bytes, and not the root");
    if (*mount->filesystem != '\0' && !is_made_of(mount->filesystem, FILESYSTEM_MAX, ""))
        return place_blame(place, "filesystem", "not the name of a file system");
    uint32_t readonly = place_find(place, "readonly");
    mount->readonly = readonly != 0 && json_type(place->json, readonly) == JSON_TRUE;
    if (readonly != 0 && !mount->readonly && json_type(place->json, readonly) != JSON_FALSE)
        return place_blame(place, "readonly", "neither true nor false");
    return true;
}

bool mount_list_read(const struct place *root, struct config *config)
{
    uint32_t list = place_find(root, "mounts");
    if (list == 0)
        return true;
    if (json_type(root->json, list) != JSON_ARRAY || json_length(root->json, list) > MOUNTS_MAX)
        return place_blame(root, "mounts", "not a list of at most 16");
    for (uint32_t node = json_first(root->json, list); node != 0; node = json_following(root->json, list, node)) {
        char path[32];
        snprintf(path, sizeof path, "mounts[%zu]", config->mount_count);
        if (json_type(root->json, node) != JSON_OBJECT)
            return place_blame(root, path, "not an object");
        strcat(path, ".");
        struct place place = {root->json, node, path, root->fault};
        if (!read_mount(&place, &config->mounts[config->mount_count]))
            return false;
        config->mount_count++;
    }
    return true;
}
