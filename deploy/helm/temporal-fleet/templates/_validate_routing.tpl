{{/*
Refuses two queues with one task queue in Temporal. A task queue that is not given is known by its workload, which
declares it. Unversioned builds take no part in routing. Argument: the fleet.
*/}}
{{- define "temporal-fleet.check-task-queues" -}}
{{- $fleet := . -}}
{{- $owners := dict -}}
{{- range $build := .builds -}}
{{- if .versioned -}}
{{- $polled := .values.taskQueue | empty | ternary (printf "the task queue of workload '%s'" .workload) (printf "task queue '%s'" .values.taskQueue) -}}
{{- $owner := get $owners $polled | default . -}}
{{- $problem := printf "queue '%s': it polls %s, as queue '%s' does; Temporal routes a task queue by one Worker Deployment only, so one of them would get nothing. Make them builds of one queue, or give each a taskQueue of its own. Where one runs the workflows and the other the activities, give both the same deploymentName and taskQueue" .queue $polled $owner.queue -}}
{{- if not (or (eq $owner.queue .queue) (eq $owner.deployment .deployment) (has $problem $fleet.problems)) -}}
{{- include "temporal-fleet.problem" (list $fleet $problem) -}}
{{- end -}}
{{- $_ := set $owners $polled $owner -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Whether a queue has the same builds and routing as the one whose Worker Deployment it shares: the server knows both by
one name, and so their builds by one build ID. Argument: a dict of fleet and queue.
*/}}
{{- define "temporal-fleet.check-shared" -}}
{{- $shown := list -}}
{{- range $queue := list .queue .queue.with -}}
{{- $builds := dict -}}
{{- range .builds }}{{- $_ := set $builds .key (dict "buildId" .id "versioned" .versioned) -}}{{- end -}}
{{- $shown = append $shown (dict
  "builds" (toJson $builds)
  "routing" (toJson (dict "current" .current "ramping" .ramping "percentage" .percentage))
  "rollout" (toJson (pick .values.rollout "mode" "allowRampDown" "allowMissingTaskQueues" "allowSharedTaskQueues"))
) -}}
{{- end -}}
{{- range $part := list "builds" "routing" "rollout" -}}
{{- $own := get (first $shown) $part -}}
{{- $other := get (last $shown) $part -}}
{{- if ne $own $other -}}
{{- include "temporal-fleet.problem" (list $.fleet (printf "queue '%s': %s is %s, but %s in queue '%s', which has the same deploymentName '%s' and task queue '%s'; workers that share a Worker Deployment are routed together, so make both the same" $.queue.key $part $own $other $.queue.with.key $.queue.deployment $.queue.values.taskQueue)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Whether the routing names builds that are there. Argument: a dict of fleet and queue.
*/}}
{{- define "temporal-fleet.check-routing" -}}
{{- $fleet := .fleet -}}
{{- $queue := .queue -}}
{{- $keys := list -}}
{{- range $queue.builds }}{{- $keys = append $keys .key -}}{{- end -}}
{{- $have := printf "it has %s" (join ", " $keys) -}}
{{- if and (not $queue.current) (gt (len $keys) 1) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': routing.current is empty, and there are several builds; set it to one of %s" $queue.key (join ", " $keys))) -}}
{{- end -}}
{{- range $name := list "current" "ramping" -}}
{{- $wanted := get $queue $name -}}
{{- if and $wanted $keys (not (has $wanted $keys)) -}}
{{- $hint := $have -}}
{{- range $queue.builds -}}
{{- if eq .id $wanted }}{{- $hint = printf "that is the build ID of build '%s'; write its key" .key -}}{{- end -}}
{{- end -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': routing.%s is '%s', which is not a key of its builds; %s" $queue.key $name $wanted $hint)) -}}
{{- end -}}
{{- end -}}
{{- if and $queue.ramping (eq (toString $queue.ramping) (toString $queue.current)) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': routing.ramping is '%s', which is current already; leave ramping out, or name another build" $queue.key $queue.ramping)) -}}
{{- end -}}
{{- if and (not $queue.ramping) (gt (float64 $queue.percentage) 0.0) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': routing.percentage is %s, but nothing is ramping; set routing.ramping to the key of a build, or percentage to 0" $queue.key (include "temporal-fleet.text" $queue.percentage))) -}}
{{- end -}}
{{- end -}}
