/* A meter on libmodbus, for meterd to poll: one unit, input registers from address 0 on.
 *
 *   libmodbus_server tcp COUNT            listens on a port that the system chooses
 *   libmodbus_server rtu DEVICE COUNT     unit 1 at 9600 8N1
 *
 * Reads lines "ADDRESS WORD WORD ..." (hexadecimal words) from stdin up to its end, then prints
 * the port (or 0) and serves until it is killed. COUNT registers exist; the rest is refused
 * with exception 2, as libmodbus does it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <modbus/modbus.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, modbus_strerror(errno));
    exit(1);
}

static void fill(modbus_mapping_t *held)
{
    char line[4096];

    while (fgets(line, sizeof line, stdin) != NULL) {
        char *word = strtok(line, " \n");
        long address = word != NULL ? strtol(word, NULL, 10) : -1;

        while ((word = strtok(NULL, " \n")) != NULL) {
            if (address < 0 || address >= held->nb_input_registers) {
                fprintf(stderr, "no register %ld\n", address);
                exit(1);
            }
            held->tab_input_registers[address++] = (uint16_t) strtol(word, NULL, 16);
        }
    }
}

static void say_port(int listener)
{
    struct sockaddr_in name;
    socklen_t size = sizeof name;

    if (listener >= 0 && getsockname(listener, (struct sockaddr *) &name, &size) != 0)
        die("getsockname");
    printf("%d\n", listener >= 0 ? ntohs(name.sin_port) : 0);
    fflush(stdout);
}

/* Until the client hangs up. On a serial line a bad frame is no reason to stop. */
static void serve(modbus_t *link, modbus_mapping_t *held, int serial)
{
    uint8_t request[MODBUS_MAX_ADU_LENGTH];

    for (;;) {
        int size = modbus_receive(link, request);

        if (size > 0)
            modbus_reply(link, request, size, held);
        else if (size < 0 && !serial)
            return;
    }
}

int main(int argc, char **argv)
{
    int serial = argc == 4 && strcmp(argv[1], "rtu") == 0;
    modbus_t *link;
    modbus_mapping_t *held;
    int listener = -1;

    if (!serial && !(argc == 3 && strcmp(argv[1], "tcp") == 0)) {
        fprintf(stderr, "usage: %s tcp COUNT | rtu DEVICE COUNT\n", argv[0]);
        return 2;
    }
    held = modbus_mapping_new(0, 0, 0, atoi(argv[argc - 1]));
    link = serial ? modbus_new_rtu(argv[2], 9600, 'N', 8, 1) : modbus_new_tcp("127.0.0.1", 0);
    if (held == NULL || link == NULL)
        die("set up");
    fill(held);
    if (serial) {
        modbus_set_slave(link, 1);
        if (modbus_connect(link) != 0)
            die("connect");
    } else if ((listener = modbus_tcp_listen(link, 4)) < 0) {
        die("listen");
    }
    say_port(listener);
    for (;;) {
        if (!serial && modbus_tcp_accept(link, &listener) < 0)
            die("accept");
        serve(link, held, serial);
        modbus_close(link);
    }
}
