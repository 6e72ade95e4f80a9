"""An FTP server on a free loopback port, which it prints, with what a test wants of it.

    ftpd.py FOLDER [tls=CERT] [old] [no-overwrite] [takes-all] [locked=NAME]
"""

import os
import shutil
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.filesystems import AbstractedFS
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

folder, *words = sys.argv[1:]
options = dict((word.split("=", 1) + [""])[:2] for word in words)


class Filesystem(AbstractedFS):
    def listdir(self, path):
        if "locked" in options and os.path.basename(path) == options["locked"]:
            raise PermissionError(13, "Permission denied")
        return super().listdir(path)

    def rename(self, src, dst):
        if "no-overwrite" in options and os.path.lexists(dst):
            raise FileExistsError(17, "File exists")
        super().rename(src, dst)

    def rmdir(self, path):
        if "takes-all" in options:
            shutil.rmtree(path)
        else:
            super().rmdir(path)


handler = FTPHandler
if "tls" in options:
    from pyftpdlib.handlers import TLS_FTPHandler

    handler = TLS_FTPHandler
    handler.certfile = options["tls"]
    handler.tls_control_required = True
    handler.tls_data_required = True
if "old" in options:
    # As RFC 959 left it, with SIZE and MDTM.
    handler.proto_cmds = {
        name: value
        for name, value in handler.proto_cmds.items()
        if name not in ("MLSD", "MLST", "MFMT")
    }

authorizer = DummyAuthorizer()
authorizer.add_user("me", "secret", folder, perm="elradfmwMT")
handler.authorizer = authorizer
handler.abstracted_fs = Filesystem
server = FTPServer(("127.0.0.1", 0), handler)
print(server.address[1], flush=True)
server.serve_forever()
