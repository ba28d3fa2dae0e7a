package abuse

// replications are startup packets that ask for replication, in every way in which PostgreSQL understands that.
func replications() []input {
	asks := func(value, postgres string) input {
		return input{name: "replication=" + value, does: []step{send(loginAs("keycloak", "replication", value)), hear('R'), halfClose},
			want: "FATAL/0A000 closed", differs: noReplication, postgres: postgres, counts: refused("replication_refused")}
	}
	does := func(value string) input {
		return input{name: "replication=" + value + " is none", does: []step{send(loginAs(trusted, "replication", value)), inAfter, leave}, want: "in closed", counts: leftIt}
	}
	all := []input{
		{name: "replication twice, the last one counts", does: []step{send(loginAs(trusted, "replication", "true", "replication", "false")), inAfter, leave}, want: "in closed", counts: leftIt},
		{name: "REPLICATION in capitals is a parameter", does: []step{send(loginAs(trusted, "REPLICATION", "true"))}, want: "R0 FATAL/42704 closed", counts: serverRefused},
	}
	for _, value := range []string{"true", "on", "yes", "1", "t", "y", "TRUE", "Yes", "database"} {
		all = append(all, asks(value, "R10 closed"))
	}
	for _, value := range []string{"", "2", "maybe", "physical", "DATABASE", "o", " true"} {
		all = append(all, asks(value, "FATAL/22023 closed"))
	}
	for _, value := range []string{"false", "off", "no", "0", "f", "n"} {
		all = append(all, does(value))
	}
	return all
}
