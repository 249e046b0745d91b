"""Servers that notices are sent to, of other makers than the box: what they got is a line of JSON each on standard output, behind a line with the port.

smtp MODE CERTIFICATE KEY [USER PASSWORD]    aiosmtpd; MODE is implicit, starttls or bare (no TLS at all)
https CERTIFICATE KEY STATUS...              http.server; answers with each STATUS in turn, then with the last
"""

import base64
import json
import ssl
import sys
import time


def say(value):
    print(json.dumps(value), flush=True)


def tls(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def smtp(mode, certificate, key, user=None, password=None):
    import email
    import email.policy

    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import SMTP, AuthResult

    class Handler:
        async def handle_DATA(self, server, session, envelope):
            message = email.message_from_bytes(envelope.content, policy=email.policy.default)
            say({
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "tls": session.ssl is not None or mode == "implicit",
                "user": session.auth_data,
                "headers": {name: str(value) for name, value in message.items()},
                "raw": base64.b64encode(envelope.content).decode(),
                "text": message.get_content(),
            })
            return "250 taken"

    def known(server, session, envelope, mechanism, data):
        right = data.login.decode() == user and data.password.decode() == password
        return AuthResult(success=right, auth_data=user)

    options = {}
    if mode == "starttls":
        options = {"tls_context": tls(certificate, key), "require_starttls": True}
    if user:
        options |= {"authenticator": known, "auth_required": True, "auth_require_tls": mode == "starttls"}

    class Quiet(Controller):
        def factory(self):
            return SMTP(self.handler, hostname="mail.test", **options)

    context = tls(certificate, key) if mode == "implicit" else None
    controller = Quiet(Handler(), hostname="127.0.0.1", port=free_port(), ssl_context=context)
    controller.start()
    say(controller.port)


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def https(certificate, key, *statuses):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    left = [int(status) for status in statuses]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = left.pop(0) if len(left) > 1 else left[0]
            say({"path": self.path, "headers": {name.lower(): value for name, value in self.headers.items()}, "body": body.decode(), "status": status})
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"https://localhost:{self.server.server_port}/elsewhere")
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"hidden")

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = tls(certificate, key).wrap_socket(server.socket, server_side=True)
    say(server.server_port)
    server.serve_forever()


{"smtp": smtp, "https": https}[sys.argv[1]](*sys.argv[2:])
# Ends with whoever reads what it says, or by being killed.
while True:
    time.sleep(60)
