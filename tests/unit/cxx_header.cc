// The header compiles as C++11, without warnings, and links.
#include <ringbus/ringbus.h>

int main()
{
    rb_server_options options = RB_SERVER_OPTIONS_INIT;
    options.host = "127.0.0.1";
    options.port = -1;
    options.shards = 1;
    char error[256];
    rb_server *server = rb_server_start(&options, error, sizeof(error));
    if (server == nullptr) {
        return 1;
    }
    struct rb_log_opts opts = rb_log_opts("1", nullptr);
    bool good = rb_server_port(server) != 0 && opts.debug;
    rb_server_stop(server);
    return good ? 0 : 1;
}
