# posttrace attach reads the first two
dist_pkgdata_DATA += %D%/main.cf.milter %D%/main.cf.policy %D%/master.cf.override
