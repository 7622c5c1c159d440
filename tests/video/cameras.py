"""Cameras on this machine: an HTTP server with MJPEG and snapshots."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2

from tests.video.footage import Pixels

USER, PASSWORD = "guard", "p@ss"


class Camera:
    """An HTTP server: ``/mjpeg`` streams, ``/snapshot`` gives one image, ``/clip.mp4`` a video file,
    ``/locked`` wants a password.

    Args:
        frames: Frames, repeated for ever.
        rate: Frames a second.
    """

    def __init__(self, frames: list[Pixels], rate: float = 10.0) -> None:
        self.images = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in frames]
        self.rate = rate
        self.requests: list[str] = []
        self.is_down = threading.Event()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                camera.requests.append(self.path)
                expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                if camera.is_down.is_set():
                    self.send_error(503)
                elif (
                    self.path == "/locked" and self.headers["Authorization"] != f"Basic {expected}"
                ):
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                    self.end_headers()
                elif self.path == "/mjpeg":
                    self.stream()
                elif self.path in ("/snapshot", "/locked"):
                    number = int(time.monotonic() * camera.rate) % len(camera.images)
                    self.send_response(200)
                    self.send_header("Content-Type", "image/jpeg")
                    self.end_headers()
                    self.wfile.write(camera.images[number])
                elif self.path == "/clip.mp4":
                    self.send_response(200)
                    self.send_header("Content-Type", "video/mp4")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self.send_error(404)

            def stream(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                number = 0
                try:
                    while not camera.is_down.is_set():
                        image = camera.images[number % len(camera.images)]
                        number += 1
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
                        self.wfile.write(head.encode() + image + b"\r\n")
                        time.sleep(1 / camera.rate)
                except OSError:
                    pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"


@contextmanager
def http_camera(frames: list[Pixels], rate: float = 10.0) -> Iterator[Camera]:
    """A camera while the block runs."""
    camera = Camera(frames, rate)
    thread = threading.Thread(target=camera.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield camera
    finally:
        camera.is_down.set()
        camera.server.shutdown()
        camera.server.server_close()
