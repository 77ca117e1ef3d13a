{{/*
Whether a build gets workers, and an autoscaler of it can work. Argument: a dict of fleet and build.
*/}}
{{- define "temporal-fleet.check-scaling" -}}
{{- $fleet := .fleet -}}
{{- $build := .build -}}
{{- $scaling := $build.values.autoscaling -}}
{{- $at := printf "queue '%s', build '%s'" $build.queue $build.key -}}
{{- if $scaling.enabled -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: autoscaling.minReplicas is %d, more than maxReplicas, which is %d; raise maxReplicas" $at (int $scaling.minReplicas) (int $scaling.maxReplicas))) -}}
{{- end -}}
{{- if gt (int $scaling.drainingMinReplicas) (int $scaling.maxReplicas) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: autoscaling.drainingMinReplicas is %d, more than maxReplicas, which is %d; lower it" $at (int $scaling.drainingMinReplicas) (int $scaling.maxReplicas))) -}}
{{- end -}}
{{- if eq $scaling.engine "keda" -}}
{{- if not $build.values.taskQueue -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: autoscaling.engine is keda, which must be told the task queue; set queues.%s.taskQueue to the one that workload '%s' polls" $at $build.queue $build.workload)) -}}
{{- end -}}
{{- include "temporal-fleet.check-requests" (dict "fleet" $fleet "build" $build "wanted" $scaling.keda "path" "autoscaling.keda") -}}
{{- include "temporal-fleet.check-keda-connection" (dict "fleet" $fleet "at" $at "temporal" $build.root.Values.temporal) -}}
{{- else -}}
{{- if and (eq $build.role "idle") (eq (int $scaling.drainingMinReplicas) 0) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: autoscaling.drainingMinReplicas is 0, which a HorizontalPodAutoscaler cannot do; use 1 or more, or engine: keda" $at)) -}}
{{- end -}}
{{- if not (or (int $scaling.cpu) (int $scaling.memory) $scaling.metrics) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: autoscaling is enabled, but nothing is measured; set autoscaling.cpu or autoscaling.memory to a percentage, or give autoscaling.metrics" $at)) -}}
{{- end -}}
{{- include "temporal-fleet.check-requests" (dict "fleet" $fleet "build" $build "wanted" $scaling "path" "autoscaling") -}}
{{- end -}}
{{- else if and (ne $build.role "idle") (eq $build.floor 0) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: replicas is 0, but the build is %s: it gets new work and has no workers; set replicas to 1 or more, or route to another build" $at $build.role)) -}}
{{- end -}}
{{- end -}}

{{/*
Whether KEDA can connect as the workers do: it encrypts if it has an API key or a client certificate, and only then.
Argument: a dict of fleet, at and temporal (the values of the connection).
*/}}
{{- define "temporal-fleet.check-keda-connection" -}}
{{- $tls := .temporal.tls -}}
{{- if or .temporal.apiKey.secretName $tls.client.secretName -}}
{{- if and (kindIs "bool" $tls.enabled) (not $tls.enabled) -}}
{{- include "temporal-fleet.problem" (list .fleet (printf "%s: autoscaling.engine is keda, which always encrypts with temporal.apiKey or temporal.tls.client, but temporal.tls.enabled is false; use engine: hpa" .at)) -}}
{{- end -}}
{{- else if or $tls.ca.secretName (eq (toString $tls.enabled) "true") -}}
{{- include "temporal-fleet.problem" (list .fleet (printf "%s: autoscaling.engine is keda, which encrypts only with temporal.apiKey or temporal.tls.client, and neither is set, but temporal.tls is; set one of them, or use engine: hpa" .at)) -}}
{{- end -}}
{{- end -}}

{{/*
Whether there are requests that a percentage can be of. Argument: a dict of fleet, build, wanted (cpu, memory) and path.
*/}}
{{- define "temporal-fleet.check-requests" -}}
{{- $resources := .build.values.resources -}}
{{- range $resource := list "cpu" "memory" -}}
{{- $asked := or (dig "requests" $resource "" $resources) (dig "limits" $resource "" $resources) -}}
{{- if and (int (get $.wanted $resource)) (not $asked) -}}
{{- include "temporal-fleet.problem" (list $.fleet (printf "queue '%s', build '%s': %s.%s is a percentage of resources.requests.%s, which is not set; set it, or %s.%s to 0" $.build.queue $.build.key $.path $resource $resource $.path $resource)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
