"""Servers on 127.0.0.1 that speak TLS: with a certificate that nobody has signed, or not to the end."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.local_server import Answer, LocalServer


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that is its own authority; return the files of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = serialization.PrivateFormat.PKCS8
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, pem, serialization.NoEncryption()))
    return files


@contextmanager
def serve_tls(certificate: Path, key: Path) -> Iterator[str]:
    """Answer everything with an empty JSON object over TLS until the block ends; give the address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = LocalServer(lambda request: Answer.of_json({}))
    server._http.socket = context.wrap_socket(server._http.socket, server_side=True)
    with server.running():
        yield server.url.replace("http://", "https://")


@contextmanager
def serve_broken_handshakes() -> Iterator[tuple[str, list[object]]]:
    """Close every connection within its handshake until the block ends; give the address, and what has connected."""
    connected: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            while True:
                try:
                    connection, address = listening.accept()
                except OSError:
                    return
                connected.append(address)  # before it learns that it broke off
                with connection:
                    connection.recv(4096)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listening.getsockname()[1]}", connected
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
