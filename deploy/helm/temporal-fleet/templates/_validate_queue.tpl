{{/*
Refuses keys where they mean nothing. Argument: a dict of fleet, key, own (values of the queue) and defaults.
*/}}
{{- define "temporal-fleet.check-placement" -}}
{{- $fleet := .fleet -}}
{{- $key := .key -}}
{{- $own := .own -}}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$" $key) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': its key becomes part of names in Kubernetes; use at most 40 of a-z, 0-9 and -, and set taskQueue and deploymentName to what Temporal should see" $key)) -}}
{{- end -}}
{{- if has $key (list "hooks" "dev-server") -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': the chart has objects of its own by this name; use another key, and set taskQueue and deploymentName to what Temporal should see" $key)) -}}
{{- end -}}
{{- range $wrong := list "builds" "buildId" "versioned" "deploymentName" -}}
{{- if hasKey $.defaults $wrong -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queueDefaults.%s: this differs for each queue; move it to queues.%s" $wrong $key)) -}}
{{- end -}}
{{- end -}}
{{- range $wrong := list "buildId" "versioned" -}}
{{- if hasKey $own $wrong -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': %s belongs to a build; move it to queues.%s.builds.<key>.%s" $key $wrong $key $wrong)) -}}
{{- end -}}
{{- end -}}
{{- range $buildKey, $build := $own.builds -}}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?$" $buildKey) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s', build '%s': its key becomes part of names in Kubernetes; use at most 20 of a-z, 0-9 and -, such as blue; the build ID may hold more" $key $buildKey)) -}}
{{- end -}}
{{- $id := ($build | default dict).buildId -}}
{{- if not (or (kindIs "invalid" $id) (kindIs "string" $id)) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s', build '%s': buildId is the number %s; write it in quotes, such as buildId: \"1.10\", since YAML drops zeros of numbers; with --set, use --set-string" $key $buildKey (include "temporal-fleet.text" $id))) -}}
{{- end -}}
{{- range $wrong := list "builds" "routing" "rollout" "deploymentName" -}}
{{- if hasKey ($build | default dict) $wrong -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s', build '%s': %s is the same for all builds of a queue; move it to queues.%s.%s" $key $buildKey $wrong $key $wrong)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
What concerns a task queue and the builds of it together. Argument: a dict of fleet and queue.
*/}}
{{- define "temporal-fleet.check-queue" -}}
{{- $fleet := .fleet -}}
{{- $queue := .queue -}}
{{- if not $queue.builds -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': it has no builds; name one, such as builds: {blue: {buildId: \"1.0.0\"}}, or remove the queue with %s: null" $queue.key $queue.key)) -}}
{{- end -}}
{{- $ids := dict -}}
{{- $unversioned := list -}}
{{- range $build := $queue.builds -}}
{{- with and $build.id (get $ids $build.id) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s', build '%s': buildId '%s' is also that of build '%s'; a build ID names one build" $queue.key $build.key $build.id .)) -}}
{{- end -}}
{{- $_ := set $ids $build.id $build.key -}}
{{- if not $build.versioned }}{{- $unversioned = append $unversioned $build.key -}}{{- end -}}
{{- end -}}
{{- if gt (len $unversioned) 1 -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': the builds %s all have versioned: false; Temporal cannot tell unversioned workers apart, so keep one" $queue.key (join ", " $unversioned))) -}}
{{- end -}}
{{- end -}}

{{/*
What concerns one build. Argument: a dict of fleet and build.
*/}}
{{- define "temporal-fleet.check-build" -}}
{{- $fleet := .fleet -}}
{{- $build := .build -}}
{{- $values := $build.values -}}
{{- $at := printf "queue '%s', build '%s'" $build.queue $build.key -}}
{{- if not $build.id -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: buildId is missing; set it to that of its image, such as buildId: \"1.4.0\", or remove the build with %s: null" $at $build.key)) -}}
{{- else if not (regexMatch "^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$" $build.id) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: buildId is %q; it becomes a label, so use 1 to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends" $at $build.id)) -}}
{{- end -}}
{{- range $name, $text := dict "deploymentName" $build.deployment "taskQueue" ($values.taskQueue | default "") "temporal.namespace" $build.root.Values.temporal.namespace -}}
{{- if regexMatch "[[:cntrl:]]" $text -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: %s is %q, which has a control character, such as the end of a line; remove it" $at $name $text)) -}}
{{- end -}}
{{- end -}}
{{- if not $values.image.repository -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: image.repository is empty; set it to where the workload's image is, without a tag" $at)) -}}
{{- end -}}
{{- include "temporal-fleet.check-image" (dict "fleet" $fleet "at" (printf "%s: image" $at) "image" $values.image "repository" $build.repository) -}}
{{- range $list := list "initContainers" "sidecars" -}}
{{- with get $values $list -}}
{{- range $container := include "temporal-fleet.evaluate" (list $build .) | fromYamlArray -}}
{{- if kindIs "map" $container -}}
{{- $image := $container.image | default "" | toString -}}
{{- if not (regexMatch "^[A-Za-z0-9]" $image) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: %s: the image of container '%s' is '%s' once its templates are evaluated; write a reference, such as registry.example/proxy:2, or {{ .image }} for that of the worker" $at $list $container.name $image)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if lt $build.grace $build.drain -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: terminationGracePeriodSeconds is %d, but the drain takes up to %d s (settings.drainTimeoutSeconds %s + settings.drainMarginSeconds %s), so running work would be killed; raise it to %d or leave it out" $at $build.grace $build.drain (include "temporal-fleet.text" (dig "drainTimeoutSeconds" 30 $values.settings)) (include "temporal-fleet.text" (dig "drainMarginSeconds" 10 $values.settings)) (add $build.drain 5))) -}}
{{- end -}}
{{- if eq $build.port 0 -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: settings.healthPort is 0, any free port, which probes cannot find; leave it out or name a port" $at)) -}}
{{- end -}}
{{- with $values.strategy -}}
{{- if and (eq .type "Recreate") .rollingUpdate -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: strategy.type is Recreate, which Kubernetes refuses together with strategy.rollingUpdate; remove rollingUpdate, or set it to null where another values file has it" $at)) -}}
{{- end -}}
{{- end -}}
{{- $owners := dict
  "FLEET_DEPLOYMENT_NAME" "deploymentName"
  "FLEET_DEPLOYMENT_BUILD_ID" "builds.<key>.buildId"
  "FLEET_DEPLOYMENT_VERSIONING" "builds.<key>.versioned"
  "FLEET_WORKER_TASK_QUEUE" "taskQueue"
  "FLEET_SECRETS_DIR" "secretFiles"
  "FLEET_DRAIN_TIMEOUT_SECONDS" "settings.drainTimeoutSeconds"
  "FLEET_DRAIN_MARGIN_SECONDS" "settings.drainMarginSeconds"
  "FLEET_HEALTH_PORT" "settings.healthPort"
  "FLEET_HEALTH_LIVENESS_TIMEOUT_SECONDS" "settings.healthLivenessTimeoutSeconds"
  "FLEET_CONNECTION_DEADLINE_SECONDS" "settings.connectionDeadlineSeconds"
  "TEMPORAL_ADDRESS" "temporal.address"
  "TEMPORAL_NAMESPACE" "temporal.namespace"
-}}
{{- include "temporal-fleet.check-plain-text" (dict "fleet" $fleet "at" (printf "%s: env" $at) "env" $values.env "cure" "put it into a Secret, and write {valueFrom: {secretKeyRef: {name: <Secret>, key: <key>}}}, or move it to secretEnv") -}}
{{- include "temporal-fleet.check-plain-text" (dict "fleet" $fleet "at" (printf "%s: settings" $at) "env" $values.settings "cure" "leave it out, and give its FLEET_ variable by a Secret in envFrom, or by secretEnv") -}}
{{- range $map := list "env" "secretEnv" "settings" -}}
{{- include "temporal-fleet.check-numbers" (dict "fleet" $fleet "at" (printf "%s: %s" $at $map) "env" (get $values $map)) -}}
{{- end -}}
{{- range $map := list "podLabels" "nodeSelector" -}}
{{- include "temporal-fleet.check-labels" (dict "fleet" $fleet "at" (printf "%s: %s" $at $map) "labels" (get $values $map)) -}}
{{- end -}}
{{- include "temporal-fleet.check-references" (dict "fleet" $fleet "at" $at "place" "env" "env" (merge (deepCopy $values.env) $build.referring) "others" (list $build.config $values.secretEnv) "envFrom" $values.envFrom) -}}
{{- $settings := dict -}}
{{- range $name, $_ := $values.settings }}{{- $_ := set $settings (include "temporal-fleet.variable" $name) $name -}}{{- end -}}
{{- range $map := list "env" "secretEnv" -}}
{{- range $name, $_ := get $values $map -}}
{{- $credential := include "temporal-fleet.place-of-credential" $name -}}
{{- if hasKey $owners $name -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: %s.%s would contradict what the chart derives from %s; set that instead" $at $map $name (get $owners $name))) -}}
{{- else if $credential -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: %s.%s: %s" $at $map $name $credential)) -}}
{{- else if hasKey $settings $name -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: %s.%s contradicts settings.%s, which is the same setting; keep settings.%s alone" $at $map $name (get $settings $name) (get $settings $name))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name := list "deploymentName" "deploymentBuildId" "deploymentVersioning" "workerTaskQueue" "temporalAddress" "temporalNamespace" -}}
{{- if hasKey $values.settings $name -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: settings.%s would contradict what the chart derives from %s; set that instead" $at $name (get $owners (include "temporal-fleet.variable" $name)))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
