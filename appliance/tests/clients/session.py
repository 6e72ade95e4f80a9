"""Prepares what a case of ftplib.rs uses; the case itself follows.

    session.py HOST PORT PASSWORD Plain|Tls12|Tls13 CERTIFICATE
"""

import ftplib
import io
import ssl
import sys

host, port, password, channel, certificate = sys.argv[1:]


class Patient(ssl.SSLSocket):
    """What ftplib needs to upload to libunftp over TLS.

    libunftp (0.24) doesn't answer the close_notify that ends an upload with its own, but closes the
    connection. ftplib takes that for a mistake, although the file is there and 226 is on its way.
    """

    def unwrap(self):
        try:
            return super().unwrap()
        except ssl.SSLEOFError:
            return self


def connect():
    """A session that has logged in, encrypted on both channels where that is asked for."""
    if channel == "Plain":
        ftp = ftplib.FTP(timeout=120)
        ftp.connect(host, int(port))
        ftp.login("raspbox", password)
        return ftp
    context = ssl.create_default_context(cafile=certificate)
    version = {"Tls12": ssl.TLSVersion.TLSv1_2, "Tls13": ssl.TLSVersion.TLSv1_3}[channel]
    context.minimum_version = context.maximum_version = version
    context.sslsocket_class = Patient
    ftp = ftplib.FTP_TLS(context=context, timeout=120)
    ftp.connect(host, int(port))
    ftp.login("raspbox", password)
    ftp.prot_p()
    return ftp


def put(ftp, name, content, **how):
    ftp.storbinary(f"STOR {name}", io.BytesIO(content), **how)


def get(ftp, name, **how):
    content = io.BytesIO()
    ftp.retrbinary(f"RETR {name}", content.write, **how)
    return content.getvalue()


def read(name):
    with open(name, "rb") as file:
        return file.read()


def refused(code, command, *args):
    """The server refuses it with this code."""
    try:
        reply = command(*args)
    except ftplib.Error as error:
        assert str(error).startswith(code), error
    else:
        raise AssertionError(f"not refused: {reply}")


ftp = connect()
