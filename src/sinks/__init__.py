"""Where events go: a web server, an MQTT broker, a database; nothing is lost on the way.

base       what a sink is, and what it is given
errors     how sinks fail
outbox     a file that holds events until every sink has taken them
delivery   a thread for each sink: in order, again and again with growing pauses
webhook    POST requests with a signature
mqtt       topics of a broker
discovery  how Home Assistant finds them
table      the table of events in the feedback store's database
options    what is asked for on the command line and in a file
targets    from URLs to sinks
"""
