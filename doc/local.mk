dist_man_MANS += %D%/man/posttrace-milter.8 %D%/man/posttrace-policyd.8 %D%/man/posttrace-recorder.8 %D%/man/posttrace.cf.5
EXTRA_DIST += %D%/architecture.md
dist_man_MANS += %D%/man/posttrace.1
