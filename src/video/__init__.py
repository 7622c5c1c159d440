"""From video to events: one event for each vehicle that a camera sees, not a text for every frame.

settings    what is asked of a source: frames a second, regions, least size of plates, delay
sources     which kind a source is; video files and folders of frames
live        cameras: the newest frame only, time-outs, reconnection
snapshots   single images that an HTTP server gives
motion      whether a frame differs from the last one that was read
tracks      which plates of successive frames are the same vehicle's
vote        which text the readings of a track support
confidence  the calibrated probability that an event's text is right
events      when an event is given, revised and continued, and what it says
watcher     one source from frames to events, and several at once
"""
