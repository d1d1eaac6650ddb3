"""What each OSS operation does: functions of service, call and received body, a module a family."""
