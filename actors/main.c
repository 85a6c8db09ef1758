#include "actors/command.h"

extern char **environ;

int main(int argc, char **argv)
{
    return cm_command_main(argc, argv, environ);
}
