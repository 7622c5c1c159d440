"""An RTSP server for the tests, run by the system's Python, which has GStreamer's bindings.

    python3 rtsp_server.py FOLDER RATE [PORT]

Streams the JPEG files 0000.jpg, 0001.jpg, … of the folder for ever, and prints its address.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402  # the versions come first


def main() -> None:
    folder, rate = sys.argv[1:3]
    Gst.init(None)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f'( multifilesrc location="{folder}/%04d.jpg" loop=true caps="image/jpeg,framerate={rate}/1" '
        "! jpegparse ! rtpjpegpay name=pay0 pt=26 )"
        if Gst.ElementFactory.find("jpegparse")
        else f'( multifilesrc location="{folder}/%04d.jpg" loop=true caps="image/jpeg,framerate={rate}/1" '
        "! jpegdec ! jpegenc ! rtpjpegpay name=pay0 pt=26 )"
    )
    factory.set_shared(True)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[3] if len(sys.argv) > 3 else "0")
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print(f"rtsp://127.0.0.1:{server.get_bound_port()}/live", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
