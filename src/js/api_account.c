/* api_account.c - $JS.API.INFO. */
#include "js/api_inside.h"

void rb_js_api_info(struct rb_js_request *request)
{
    struct rb_out out;
    rb_js_answer_begin(request, &out);
    rb_out_put(&out, RB_S(","));
    rb_js_write_account_info(&out, request->account);
    rb_js_answer_send(request, &out, RB_S(""));
}
